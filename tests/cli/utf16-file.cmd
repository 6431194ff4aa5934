# RUN: printf '\377\376n\0n\0' | nnc -
# EXIT: 1
