# RUN: printf 'nn 1;\rmodel m {\r  nonsense\r}\r' | nnc -
# EXIT: 1
