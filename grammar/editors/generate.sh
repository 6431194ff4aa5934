#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Writes the syntax files for editors from the list of keywords: run it after changing ../keywords.def.
# nn.tmLanguage.json serves VS Code, Sublime Text and TextMate, nn.vim Vim and Neovim.
# With --check nothing is written; the exit code says whether the files are up to date.

cd "$(dirname "$0")" || exit 1
LC_ALL=C
export LC_ALL

words() { # GROUP: its words, one a line
    sed -n "s/^KEYWORD(\([a-z]*\), [A-Z]*, $1, .*/\1/p" ../keywords.def
}
joined() { # GROUP...: alternatives of a regular expression
    for g; do words "$g"; done | paste -s -d '|' -
}
listed() { # GROUP...: words in one line
    for g; do words "$g"; done | paste -s -d ' ' -
}

textmate() {
    cat <<EOF2
{
  "name": "nn",
  "scopeName": "source.nn",
  "fileTypes": ["nn"],
  "patterns": [
    { "name": "comment.line.number-sign.nn", "match": "#.*\$" },
    { "name": "string.quoted.double.nn", "begin": "\"", "end": "\"|\$" },
    { "name": "constant.language.nn", "match": "\\\\b($(joined value))\\\\b" },
    { "name": "constant.numeric.nn", "match": "\\\\b[0-9]+(\\\\.[0-9]+)?([eE][+-]?[0-9]+)?\\\\b" },
    { "name": "entity.name.label.nn", "match": "@[A-Za-z_][A-Za-z0-9_]*" },
    { "match": "\\\\b(block|loss|model|layer|infer|step)\\\\s+([A-Za-z_][A-Za-z0-9_]*)",
      "captures": { "1": { "name": "keyword.declaration.nn" }, "2": { "name": "entity.name.function.nn" } } },
    { "name": "keyword.declaration.nn", "match": "\\\\b($(joined file member))\\\\b" },
    { "name": "keyword.control.nn", "match": "\\\\b($(joined statement word))\\\\b" },
    { "name": "storage.type.nn", "match": "\\\\b(f32|i32|u8|bool|int|int2|float|list|pad|name|reduction|init)\\\\b" },
    { "name": "keyword.operator.nn", "match": "->|\\\\.\\\\.|[-+*/%^<>=!&|?:]" },
    { "name": "entity.name.function.nn", "match": "[A-Za-z_][A-Za-z0-9_]*(?=\\\\()" }
  ]
}
EOF2
}

vim() {
    cat <<EOF2
" Vim syntax file for .nn, written by generate.sh.
if exists("b:current_syntax")
  finish
endif
syn keyword nnDeclaration $(listed file member)
syn keyword nnStatement $(listed statement word)
syn keyword nnBoolean $(listed value)
syn keyword nnType f32 i32 u8 bool int int2 float list pad name reduction init
syn match nnComment "#.*\$"
syn match nnLabel "@[A-Za-z_][A-Za-z0-9_]*"
syn match nnNumber "\\<[0-9]\\+\\(\\.[0-9]\\+\\)\\?\\([eE][+-]\\?[0-9]\\+\\)\\?\\>"
syn match nnOperator "->\\|\\.\\."
syn match nnFunction "[A-Za-z_][A-Za-z0-9_]*\\ze("
syn region nnString start=+"+ end=+"+ oneline
hi def link nnDeclaration Keyword
hi def link nnStatement Statement
hi def link nnBoolean Boolean
hi def link nnType Type
hi def link nnComment Comment
hi def link nnLabel Label
hi def link nnNumber Number
hi def link nnOperator Operator
hi def link nnFunction Function
hi def link nnString String
setlocal commentstring=#\\ %s
let b:current_syntax = "nn"
EOF2
}

if [ "${1:-}" = --check ]; then
    textmate | cmp -s - nn.tmLanguage.json && vim | cmp -s - nn.vim
else
    textmate >nn.tmLanguage.json
    vim >nn.vim
fi
