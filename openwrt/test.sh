#!/bin/sh

case "$1" in
echomesh)
	echomesh --version 2>&1 | grep -F "$2" || exit 1
	;;
esac
