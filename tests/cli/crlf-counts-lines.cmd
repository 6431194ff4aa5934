# RUN: printf 'nn 1;\r\nmodel m {\r\n  nonsense\r\n}\r\n' | nnc -
# EXIT: 1
