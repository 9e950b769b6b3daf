"""The command line: arguments, output, exit codes. Each command's module is imported on use."""
