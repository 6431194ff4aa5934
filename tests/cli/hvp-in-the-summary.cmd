# RUN: nnc examples/mlp/model.nn --hvp=train --emit=summary
