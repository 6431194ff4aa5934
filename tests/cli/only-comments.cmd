# RUN: printf '# nothing\n\n' | nnc -
# EXIT: 1
