//! File, arguments and environment -> a configuration that is already right; every error of the file in one run.
