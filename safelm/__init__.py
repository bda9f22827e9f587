"""The library: how each step of Safety Pretraining works, as pure functions and the DataTrove
blocks that wrap them.
"""

import gc

# Importing torch and transformers makes millions of objects. The collector would walk over them
# hundreds of times, a tenth of the time that a stage takes to start.
gc.set_threshold(200_000, 20, 100)
