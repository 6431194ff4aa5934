#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Installs the benchmark's peers into build/venv. What cannot be installed is said and then reported as absent.

B=${B:-build}
[ -x "$B/venv/bin/python" ] || python3 -m venv "$B/venv" || exit 1
for package in torch==2.13.0 numpy safetensors onnx onnxruntime; do
    name=${package%%=*}
    if "$B/venv/bin/python" -c "import $name" 2>/dev/null; then
        echo "  there  $name"
    elif "$B/venv/bin/pip" install -q "$package" >"$B/pip.log" 2>&1; then
        echo "  PIP    $package"
    else
        echo "  absent $package: $(tail -n 1 "$B/pip.log")"
    fi
done
