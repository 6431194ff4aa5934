# SPDX-License-Identifier: MIT
#
# Builds the compiler (build/nnc) and the runtime library (build/libnn.a), runs tests, examples and
# benchmarks. `make help` lists the targets. Variables that matter: V=1 shows commands, B=DIR builds
# somewhere else, CC, OPT and SAN choose compiler, optimisation and sanitizers of that build.

ifeq ($(origin CC),default)
CC := gcc
endif
B       ?= build
OPT     ?= -O2
ARCH    ?= -march=native
SAN     ?=
WERROR  ?=
PREFIX  ?= /usr/local
DESTDIR ?=
JOBS    ?= $(shell nproc 2>/dev/null || echo 2)

# Parallel unless the caller says otherwise with -j.
ifeq ($(filter -j% --jobserver%,$(MAKEFLAGS)),)
MAKEFLAGS += -j$(JOBS)
endif
MAKEFLAGS += --no-print-directory

ifeq ($(V),1)
Q :=
say = @:
else
Q := @
say = @printf '  %-5s %s\n'
endif

WARN    := -Wall -Wextra -Wpedantic -Wshadow -Wconversion $(if $(WERROR),-Werror)
NNC_CFLAGS := -std=c11 -D_POSIX_C_SOURCE=200809L $(OPT) -g $(WARN) $(SAN) -Icompiler -I$(B)/gen
# What generated code and the library are compiled with: contraction into FMA, no errno, no traps.
NN_CFLAGS  := -std=gnu11 $(if $(SAN),-O1,-O3) $(ARCH) -g -fno-math-errno -fno-trapping-math $(WARN) $(SAN) -Iruntime
RUN_LIBS   := -lopenblas -lz -lpthread -lm

# ---- sources ----

NNC_SRC := $(sort $(shell find compiler -name '*.c'))
RUN_SRC := $(sort $(shell find runtime -name '*.c'))
STD_NN  := $(sort $(wildcard compiler/front/std/*.nn))
GEN_SRC := $(B)/gen/nn.tab.c $(B)/gen/nn.lex.c $(if $(STD_NN),$(B)/gen/std_embed.c)
GEN_HDR := $(B)/gen/nn.tab.h $(B)/gen/nn.lex.h

NNC_OBJ := $(NNC_SRC:%.c=$(B)/obj/%.o) $(GEN_SRC:$(B)/%.c=$(B)/obj/%.o)
RUN_OBJ := $(RUN_SRC:%.c=$(B)/obj/%.o)
# The compiler without its main: what unit tests and fuzz targets link.
NNC_LIB_OBJ := $(filter-out $(B)/obj/compiler/main.o,$(NNC_OBJ))

.PHONY: all deps test unit text demo examples check-ops bless emit-diff bench bench-profile bench-growth bench-doc bench-deps fuzz soak asan coverage \
        targets ulp format lint doc install clean help compile-commands

all: $(B)/nnc $(B)/libnn.a ## build the compiler and the library

# ---- packages (Debian and Ubuntu; elsewhere the list is what to install by hand) ----

PACKAGES := gcc g++ clang make flex bison libopenblas-dev check pkg-config uthash-dev libjansson-dev \
            zlib1g-dev libpng-dev librandom123-dev python3 python3-venv clang-format

deps: $(B)/.deps ## install the packages the build needs (done by every target, silent when they are there)

$(B)/.deps: Makefile
	@mkdir -p $(B)
	@if command -v dpkg-query >/dev/null 2>&1; then \
	    missing=; \
	    for p in $(PACKAGES); do \
	        dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$p"; \
	    done; \
	    if [ -n "$$missing" ]; then \
	        echo "  DEPS  installing$$missing"; \
	        sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
	        log=$(B)/deps.log; \
	        { $$sudo apt-get update -qq && \
	          DEBIAN_FRONTEND=noninteractive $$sudo apt-get install -y -qq $$missing; } >$$log 2>&1 || \
	        { cat $$log >&2; echo "could not install:$$missing" >&2; exit 1; }; \
	    fi; \
	else \
	    echo "  DEPS  not a Debian system; needed are: $(PACKAGES)"; \
	fi
	@touch $@

# ---- compiler and library ----

$(B)/nnc: $(NNC_OBJ)
	$(say) LINK $@
	$(Q)$(CC) $(SAN) -o $@ $(NNC_OBJ) -ljansson -lm

$(B)/libnnc.a: $(NNC_LIB_OBJ)
	$(say) AR $@
	$(Q)rm -f $@ && ar rcs $@ $(NNC_LIB_OBJ)

$(B)/libnn.a: $(RUN_OBJ)
	$(say) AR $@
	$(Q)rm -f $@ && ar rcs $@ $(RUN_OBJ)

$(B)/obj/runtime/%.o: runtime/%.c | $(B)/.deps
	$(say) CC runtime/$*.c
	$(Q)mkdir -p $(@D) && $(CC) $(NN_CFLAGS) -MMD -MP -c -o $@ $<

$(B)/obj/compiler/%.o: compiler/%.c $(GEN_HDR) | $(B)/.deps
	$(say) CC $*.c
	$(Q)mkdir -p $(@D) && $(CC) $(NNC_CFLAGS) -MMD -MP -c -o $@ $<

# What bison and flex write is compiled without our warnings.
$(B)/obj/gen/%.o: $(B)/gen/%.c $(GEN_HDR) | $(B)/.deps
	$(say) CC $(notdir $<)
	$(Q)mkdir -p $(@D) && $(CC) $(NNC_CFLAGS) -Wno-conversion -Wno-sign-conversion -Wno-pedantic -w -Igrammar -MMD -MP -c -o $@ $<

$(B)/gen/nn.tab.c $(B)/gen/nn.tab.h &: grammar/nn.y | $(B)/.deps
	$(say) BISON nn.y
	$(Q)mkdir -p $(B)/gen && bison -Wall -Werror -Wno-yacc -o $(B)/gen/nn.tab.c --header=$(B)/gen/nn.tab.h $<

$(B)/gen/nn.lex.c $(B)/gen/nn.lex.h &: grammar/nn.l grammar/keywords.def | $(B)/.deps
	$(say) FLEX nn.l
	$(Q)mkdir -p $(B)/gen && flex --header-file=$(B)/gen/nn.lex.h -o $(B)/gen/nn.lex.c $<

$(B)/gen/std_embed.c: compiler/front/embed.awk $(STD_NN)
	$(say) EMBED 'std/*.nn'
	$(Q)mkdir -p $(B)/gen && LC_ALL=C awk -f compiler/front/embed.awk $(STD_NN) >$@.tmp && mv $@.tmp $@

-include $(shell find $(B)/obj -name '*.d' 2>/dev/null)

# ---- tests ----

T ?=
OP ?=
SUITES ?=

test: all $(B)/unit-tests ## run every test, or SUITES='lint text'; the last line is the count
	@tests/all.sh $(SUITES)

text: all ## run the text tests only: T='tests/errors/*' selects
	@tests/run.sh $(T)

unit: $(B)/unit-tests ## run the unit tests only
	@tests/unit.sh

UNIT_SRC := $(sort $(wildcard tests/unit/test_*.c))
UNIT_BIN := $(UNIT_SRC:tests/unit/%.c=$(B)/unit/%)
.PHONY: $(B)/unit-tests
$(B)/unit-tests: $(UNIT_BIN)

# A unit test may reach into the compiler, the library or both; unused objects are left out of the link. What users run
# is optimised as they do it, the tests in double precision less, which takes the compiler three quarters of the time.
$(B)/unit/%: tests/unit/%.c $(B)/libnnc.a $(B)/libnn.a | $(B)/.deps
	$(say) UNIT $*
	$(Q)mkdir -p $(@D) && $(CC) -std=gnu11 -D_GNU_SOURCE $(if $(SAN)$(filter %_f64,$*),-O1,-O2) $(ARCH) -fno-math-errno -fno-trapping-math -g1 \
	    $(WARN) -Wno-pedantic $(SAN) -Icompiler -Iruntime -I$(B)/gen -Itests/unit -MMD -MP -MF $@.d -o $@ $< \
	    $(B)/libnnc.a $(B)/libnn.a $$(pkg-config --cflags --libs check) -ljansson $(RUN_LIBS)

-include $(wildcard $(B)/unit/*.d)

check-ops: all ## gradients, types and determinism of every operator, or of one: OP=conv2d
	@tests/ops/check-ops.sh $(OP)

bless: all ## rewrite the goldens of failing tests: T=tests/errors/dim*
	@tests/run.sh --bless $(T)

emit-diff: all ## difference of all generated C against another revision: BASE=main
	@tests/emit-diff.sh $(BASE)

# Compilers for other processors and the emulator: large, so not among what every build needs.
TARGET_PACKAGES := gcc-aarch64-linux-gnu gcc-arm-linux-gnueabihf gcc-s390x-linux-gnu libc6-dev-arm64-cross \
                   libc6-dev-armhf-cross libc6-dev-s390x-cross qemu-user
targets: all ## generated code on other processors, emulated: installs the compilers for them
	@$(MAKE) B=$(B)/targets-deps PACKAGES='$(TARGET_PACKAGES)' $(B)/targets-deps/.deps
	@tests/targets/targets.sh

ulp: $(B)/.deps ## largest error of exp, log, tanh .. over all 2^32 numbers, with and without FMA: minutes
	$(Q)mkdir -p $(B)
	@for form in '' -ffp-contract=off; do \
	    ($(CC) -std=gnu11 -D_GNU_SOURCE -O3 -march=native $$form -fno-math-errno -fno-trapping-math -DULP_STEP=1 \
	        -DNN_NO_THREADS -Itests/targets -Iruntime -o $(B)/ulp$$form tests/unit/test_kernels_a.c runtime/model.c \
	        -lm && $(B)/ulp$$form) >$(B)/ulp$$form.log 2>&1 & forms="$$forms $$!"; \
	done; failed=0; for p in $$forms; do wait $$p || failed=1; done; \
	cat $(B)/ulp.log $(B)/ulp-ffp-contract=off.log; exit $$failed

lint: all ## folder order, table order, forbidden patterns, formatting marks
	@tests/lint.sh

# One build per sanitizer, beside the normal one.
asan: ## the compiler and its text and unit tests under ASan and UBSan
	@$(MAKE) B=$(B)/asan OPT=-O1 SAN='-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer' all $(B)/asan/unit-tests
	@NNC=$(B)/asan/nnc tests/run.sh
	@UNIT=$(B)/asan/unit tests/unit.sh

coverage: ## line coverage of the compiler and library under the text and unit tests
	@$(MAKE) B=$(B)/coverage OPT=-O0 SAN=--coverage all $(B)/coverage/unit-tests
	@find $(B)/coverage -name '*.gcda' -delete
	@NNC=$(B)/coverage/nnc tests/run.sh >/dev/null || true
	@UNIT=$(B)/coverage/unit tests/unit.sh >/dev/null || true
	@tests/coverage.sh $(B)/coverage

FUZZ_SECONDS ?= 60
fuzz: ## build and run the fuzz targets, FUZZ_SECONDS=60 each
	@FUZZ_SECONDS=$(FUZZ_SECONDS) tests/fuzz/fuzz.sh

soak: all ## long run: random networks, kill and resume, an hour by default (SOAK_SECONDS=3600)
	@tests/soak.sh

# ---- demo, benchmark ----

DATA ?=
demo: $(B)/examples/lenet/app ## train LeNet on digits within two minutes: DATA=dir takes MNIST files from there
	@$(B)/examples/lenet/app --out $(B)/examples/lenet/lenet.safetensors $(if $(DATA),--data '$(DATA)')

EXAMPLES := $(patsubst examples/%/main.c,%,$(wildcard examples/*/main.c))
examples: $(EXAMPLES:%=$(B)/examples/%/app) ## build every example as build/examples/NAME/app

$(B)/examples/backprop/model.c: NNC_FLAGS := --trace=backward
$(B)/examples/%/model.c: examples/%/model.nn $(B)/nnc
	$(say) NNC $<
	$(Q)mkdir -p $(@D) && $(B)/nnc $(NNC_FLAGS) $< -o $@

$(B)/examples/%/app: examples/%/main.c $(B)/examples/%/model.c $(B)/libnn.a $(wildcard runtime/*.h runtime/kernels/*.h)
	$(say) CC $<
	$(Q)$(CC) $(NN_CFLAGS) -g1 -I$(@D) -o $@ $< $(@D)/model.c $(B)/libnn.a $(RUN_LIBS)

.PRECIOUS: $(B)/examples/%/model.c

M ?=
bench: all ## time the models of tests/bench against their peers: M=m3 ROUNDS=3 THREADS="1 2" PEERS="eager compile onnxruntime"
	@B=$(B) CC=$(CC) python3 tests/bench/bench.py $(M)

bench-profile: all ## where the time of one cell goes, by operator and layer: M=m7 WHAT=train BATCH=8 THREADS=2
	@B=$(B) CC=$(CC) python3 tests/bench/profiler.py $(M)

bench-growth: all ## how time and memory grow with batch, width, depth, image size: M=conv-batch
	@B=$(B) CC=$(CC) python3 tests/bench/growth.py $(M)

bench-doc: ## write the results in build into docs/benchmarks.md
	@B=$(B) python3 tests/bench/doc.py

bench-deps: $(B)/.deps ## install the benchmark's peers into build/venv (PyTorch)
	@tests/bench/deps.sh

# ---- house-keeping ----

doc: all ## regenerate docs/operators.md from the operator table
	@$(B)/nnc --manual >$(B)/operators.md.tmp && mv $(B)/operators.md.tmp docs/operators.md

format: ## clang-format every C source
	@git ls-files '*.c' '*.h' | xargs clang-format -i

install: all ## install nnc, the library and its headers: PREFIX=/usr/local DESTDIR=
	$(say) INST $(DESTDIR)$(PREFIX)
	$(Q)install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/pkgconfig $(DESTDIR)$(PREFIX)/include/nn/kernels
	$(Q)install -m 755 $(B)/nnc $(DESTDIR)$(PREFIX)/bin/nnc
	$(Q)install -m 644 $(B)/libnn.a $(DESTDIR)$(PREFIX)/lib/libnn.a
	$(Q)install -m 644 runtime/*.h $(DESTDIR)$(PREFIX)/include/nn/
	$(Q)install -m 644 runtime/kernels/*.h $(DESTDIR)$(PREFIX)/include/nn/kernels/
	$(Q)printf 'prefix=%s\n\nName: nn\nDescription: runtime of programs generated by nnc\nVersion: 1\nCflags: -I$${prefix}/include/nn\nLibs: -L$${prefix}/lib -lnn %s\n' \
	    '$(PREFIX)' '$(RUN_LIBS)' >$(DESTDIR)$(PREFIX)/lib/pkgconfig/nn.pc

clean: ## remove everything that was built
	$(Q)rm -rf $(B)

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' Makefile
