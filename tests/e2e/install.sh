#!/bin/sh
# SPDX-License-Identifier: MIT
#
# An installed copy works away from the source tree: the linear example is compiled, built and run with nothing
# but what `make install` put into a directory.

. tests/lib.sh
suite install

root=$(pwd)
dest=$root/$WORK/dest
try "make install" make install DESTDIR="$dest" PREFIX=/usr B="$B"
mkdir -p "$WORK/app"
cp examples/linear/model.nn examples/linear/main.c "$WORK/app/"
cd "$WORK/app" || exit 2
WORK=$root/$WORK
RESULTS=$root/$RESULTS
try "installed nnc compiles" "$dest/usr/bin/nnc" model.nn -o model.c
# Two words a line are needed of pkg-config's answer; the prefix is that of the destination.
flags=$(PKG_CONFIG_PATH=$dest/usr/lib/pkgconfig pkg-config --define-variable=prefix="$dest/usr" --cflags --libs nn)
try "installed headers and library build a program" "$CC" -std=gnu11 -O2 -o app main.c model.c $flags
try "the program runs" ./app
cd "$root" || exit 2
finish
