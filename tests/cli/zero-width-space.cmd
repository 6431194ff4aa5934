# RUN: printf 'nn 1;\nconst A\342\200\213 = 1;\n' | nnc -
# EXIT: 1
