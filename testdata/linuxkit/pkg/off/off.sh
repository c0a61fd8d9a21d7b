#!/bin/sh
# ends the machine
poweroff -f
