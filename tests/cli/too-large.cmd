# RUN: head -c 17000000 /dev/zero | tr '\0' ' ' | nnc -
# EXIT: 4
