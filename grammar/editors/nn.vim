" Vim syntax file for .nn, written by generate.sh.
if exists("b:current_syntax")
  finish
endif
syn keyword nnDeclaration nn import const dim block loss model layer param state hyper infer step
syn keyword nnStatement if for scan yield return metric report minimize else in as over using
syn keyword nnBoolean true false
syn keyword nnType f32 i32 u8 bool int int2 float list pad name reduction init
syn match nnComment "#.*$"
syn match nnLabel "@[A-Za-z_][A-Za-z0-9_]*"
syn match nnNumber "\<[0-9]\+\(\.[0-9]\+\)\?\([eE][+-]\?[0-9]\+\)\?\>"
syn match nnOperator "->\|\.\."
syn match nnFunction "[A-Za-z_][A-Za-z0-9_]*\ze("
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
setlocal commentstring=#\ %s
let b:current_syntax = "nn"
