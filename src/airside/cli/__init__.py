"""The command line: arguments, tables, exit codes. Each command is a module, loaded when used."""
