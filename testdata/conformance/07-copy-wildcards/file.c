file.c
