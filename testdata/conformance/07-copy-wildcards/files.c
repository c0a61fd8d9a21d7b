files.c
