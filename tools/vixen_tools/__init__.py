"""What the Python tools share: errors, progress, raw files, tokens, pictures and the writer of the HDF5 data set."""

VERSION = "0.1.0"  # the program's too: CMakeLists.txt takes it from here
