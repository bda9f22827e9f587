"""What a crash left behind, and what is wrong around the build: one line each, with the remedy.

DVC writes its own files in place and never syncs them; killed at the wrong moment it cannot be run
again until a person deletes the right one. Here each has a name, and `--fix` moves it aside."""
