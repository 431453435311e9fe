"""What the commands show: one view a command, the live display, doctor. Imported by the command line only."""
