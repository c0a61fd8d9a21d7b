#!/bin/sh
exec cat /srv/hello.txt
