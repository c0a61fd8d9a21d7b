#!/bin/sh
exec getty
