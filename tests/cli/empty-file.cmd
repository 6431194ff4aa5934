# RUN: printf '' | nnc -
# EXIT: 1
