"""DataTrove executors that make each shard once, by its key: local, Ray and Slurm."""
