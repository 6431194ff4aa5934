# SPDX-License-Identifier: MIT
#
# From `nnc --list=samples` (operator or block, call, type, number of results, flags; separated by tabs) to one directory of
# files per sample: case.nn (whole, fixed shapes), batch1.nn and batch2.nn (operands with a leading B: every one whose
# first size is the result's, or only the first such one), and glue*.h, which describe the case to check_ops.c.
# Set -v dir=OUTPUT -v only='NAME NAME' (empty: all).

function fail(text) { print "generate.awk: " FILENAME ":" FNR ": " text >"/dev/stderr"; exit 1 }

# Splits s at commas outside brackets into part[1..]; returns their number.
function split_args(s, part,    n, depth, i, c, from) {
    n = 0; depth = 0; from = 1
    for (i = 1; i <= length(s); i++) {
        c = substr(s, i, 1)
        if (c ~ /[(\[]/) depth++
        else if (c ~ /[)\]]/) depth--
        else if (c == "," && depth == 0) { part[++n] = trim(substr(s, from, i - from)); from = i + 1 }
    }
    if (trim(substr(s, from)) != "") part[++n] = trim(substr(s, from))
    return n
}
function trim(s) { gsub(/^[ \t]+|[ \t]+$/, "", s); return s }
function dtype_of(type) { return substr(type, 1, index(type, "[") - 1) }
function dims_of(type) { return substr(type, index(type, "[") + 1, length(type) - index(type, "[") - 1) }
function numel(type,    d, n, i, p) {
    n = split(dims_of(type), d, ","); p = 1
    for (i = 1; i <= n; i++) p *= d[i]
    return p
}
function first_dim(type,    d) { return split(dims_of(type), d, ",") ? trim(d[1]) : "" }
function with_batch(type,    rest) {
    rest = dims_of(type)
    if (index(rest, ",")) return dtype_of(type) "[B" substr(rest, index(rest, ",")) "]"
    return dtype_of(type) "[B]"
}
function code_of(dtype) { return dtype == "f32" ? "f" : dtype == "i32" ? "i" : "b" }
function c_type(code) { return code == "f" ? "double" : code == "i" ? "int32_t" : code == "b" ? "unsigned char" : "" }

BEGIN { FS = "\t" }

only != "" && index(" " only " ", " " $1 " ") == 0 { next }
$5 ~ /internal/ { next }

{
    op = $1; expr = $2; type = $3; results = $4; flags = $5
    is_block = flags ~ /^block/
    if (match(expr, /^[a-z0-9_, ]+ = [a-z0-9_]+\(/)) expr = substr(expr, index(expr, " = ") + 3) # names of its results
    id = sprintf("s%03d", ++count)
    sub_dir = dir "/" id
    system("mkdir -p " sub_dir)

    open_at = index(expr, "(")
    if (!open_at || substr(expr, length(expr)) != ")") fail("not a call: " expr)
    n = split_args(substr(expr, open_at + 1, length(expr) - open_at - 1), arg)
    call = ""; operands = 0
    for (i = 1; i <= n; i++) {
        text = arg[i]; by_name = ""
        if (match(text, /^[A-Za-z_][A-Za-z0-9_]* = [A-Za-z_][A-Za-z0-9_]*: /)) {
            by_name = substr(text, 1, index(text, " = ") + 2)
            text = substr(text, index(text, " = ") + 3)
        }
        if (match(text, /^[A-Za-z_][A-Za-z0-9_]*[?]? *: */)) {
            word = substr(text, 1, RLENGTH); sub(/[?]? *: *$/, "", word)
            value = trim(substr(text, RLENGTH + 1))
            if (value ~ /^(f32|i32|u8|bool)\[/) {
                operands++
                name[operands] = word "_"; kind[operands] = value
                text = word "_"
            } else text = value
        }
        call = call (call == "" ? "" : ", ") by_name text
    }
    call = (is_block ? op : "ops." op) "(" call ")"
    out_code = code_of(dtype_of(type))
    has_grad = out_code == "f" && flags !~ /nograd|metrics/
    targets = ""
    for (k = 1; k <= operands; k++)
        if (dtype_of(kind[k]) == "f32" && !((op ":" substr(name[k], 1, length(name[k]) - 1)) in no_grad_operand))
            targets = targets (targets == "" ? "" : ", ") name[k]
    if (targets == "") has_grad = 0
    left = "y"
    for (k = 2; k <= results; k++) left = left ", y" k

    # ---- the whole form: f32 operands are parameters ----
    f = sub_dir "/case.nn"
    print "nn 1;                 # " expr >f
    whole_call = call
    if (is_block) whole_call = wrap(f)
    print "model " id " {" >f
    if (is_block) print "  layer op = probe();" >f
    if (is_block && has_grad) targets = targets (targets == "" ? "" : ", ") "op"
    inputs = ""
    for (k = 1; k <= operands; k++) {
        if (dtype_of(kind[k]) == "f32") print "  param " name[k] ": " kind[k] " = uniform(-1, 1);" >f
        else inputs = inputs (inputs == "" ? "" : ", ") name[k] ": " kind[k]
    }
    bind = results > 1 ? "    " left " = " whole_call ";\n    z: " type " = y;" : "    z: " type " = " whole_call ";"
    print "  infer value(" inputs ") -> z {\n" bind "\n  }" >f
    if (has_grad) {
        print "  step check(" inputs (inputs == "" ? "" : ", ") "r_: " type ") {" >f
        print bind >f
        # Not linear in z, so that the second derivative sees what dy does to the gradient.
        print "    minimize sum((z + 0.5 * z * z) * r_) over " targets " using sgd(lr = 1.0);\n  }" >f
    }
    print "}" >f
    close(f)
    glue(sub_dir "/glue.h", id, 0, 0)

    # ---- batched forms: all f32 operands are inputs ----
    lead = first_dim(type)
    if (lead != "" && op !~ /^(batch_norm_train|mixup)/) {
        for (form = 1; form <= 2; form++) {
            f = sub_dir "/batch" form ".nn"
            inputs = ""; taken = 0
            for (k = 1; k <= operands; k++) {
                batched[k] = first_dim(kind[k]) == lead && (form == 1 || !taken)
                if (batched[k]) taken++
                inputs = inputs (inputs == "" ? "" : ", ") name[k] ": " (batched[k] ? with_batch(kind[k]) : kind[k])
            }
            if (!taken || (form == 2 && taken_before == 1)) continue
            taken_before = taken
            print "nn 1;                 # " expr >f
            print "dim B = 1..2;" >f
            bcall = call
            if (is_block) bcall = wrap(f)
            print "model " id "b {" >f
            if (is_block) print "  layer op = probe();" >f
            btype = with_batch(type)
            bind = results > 1 ? "    " left " = " bcall ";\n    z: " btype " = y;" : "    z: " btype " = " bcall ";"
            print "  infer value(" inputs ") -> z {\n" bind "\n  }\n}" >f
            close(f)
            glue(sub_dir "/glue_batch" form ".h", id "b", 1, lead)
        }
    }
    taken_before = 0
}

# A block of the library is called in a block of its own, which counts its parameters and one more, so that `over op`
# always has something to train. Returns the call of the layer `op`.
function wrap(f,    k, formals) {
    for (k = 1; k <= operands; k++) formals = formals (k == 1 ? "" : ", ") name[k]
    print "block probe(" formals ") {" >f
    if (has_grad) print "  param one: f32[] = ones();" >f
    print "  " left " = " call (op == "split" ? "" : " @f") ";" >f
    print "  return y" (has_grad ? " * one" : "") substr(left, 2) ";\n}" >f
    return "op(" formals ")"
}

function glue(file, model, is_batch, lead,    k, c, n_in, args, q, upper) {
    upper = toupper(model)
    print "/* " op " */\n#include \"" model ".h\"" >file
    printf "static nn_model *%s_make(const nn_options *o) { return (nn_model *)%s_new(%s_VALUE%s, o); }\n", model, model, upper, (!is_batch && has_grad) ? " | " upper "_CHECK | " upper "_CHECK_HVP" : "" >file
    args = is_batch ? ", batch" : ""
    n_in = 0
    for (k = 1; k <= operands; k++) {
        c = code_of(dtype_of(kind[k]))
        if (c == "f" && !is_batch) continue
        args = args ", (const " c_type(c) " *)in[" n_in++ "]"
    }
    printf "static nn_status %s_run(nn_model *m, int batch, const void *const *in, void *y)\n{\n", model >file
    printf "    (void)batch;\n    (void)in;\n    return %s_value((%s *)m%s, (%s *)y);\n}\n", model, model, args, c_type(out_code) >file
    if (!is_batch && has_grad) {
        printf "static nn_status %s_run_grad(nn_model *m, const void *const *in, const double *r, double *loss)\n{\n", model >file
        printf "    %s_check_out out;\n    (void)in;\n    nn_status s = %s_check_grad((%s *)m%s, r, &out);\n    *loss = out.loss;\n    return s;\n}\n", model, model, model, args >file
        printf "static nn_status %s_run_hvp(nn_model *m, const void *const *in, const double *r, const double *v, double *hv)\n{\n", model >file
        printf "    (void)in;\n    return %s_check_hvp((%s *)m%s, r, v, hv);\n}\n", model, model, args >file
    }
    q = expr; gsub(/"/, "\\\"", q)
    printf "const Case case_%s = {\n    .id = \"%s\", .op = \"%s\", .expr = \"%s\", .random = %d, .is_batch = %d,\n", model, id, op, q, flags ~ /random/, is_batch >file
    printf "    .make = %s_make, .value = %s_run, .grad = %s, .product = %s, .n_in = %d,\n    .in = {", model, model, (!is_batch && has_grad) ? model "_run_grad" : "NULL", (!is_batch && has_grad) ? model "_run_hvp" : "NULL", n_in >file
    for (k = 1; k <= operands; k++) {
        c = code_of(dtype_of(kind[k]))
        if (c == "f" && !is_batch) continue
        printf " { '%s', %d, %d },", c, numel(kind[k]) / (is_batch && batched[k] ? lead : 1), is_batch && batched[k] >file
    }
    printf " { 0, 0, 0 } },\n    .out_dtype = '%s', .out_count = %d, .positive = \"%s\",\n};\n", out_code, numel(type) / (is_batch ? lead : 1), positive_of() >file
    close(file)
}

# Parameters that must be positive, or probabilities, for the operator to be defined.
function positive_of() {
    if (op ~ /^(log|sqrt|pow|rsqrt|power|dice|iou)$/) return "*"
    if (op == "bce") return "unit"
    if (op == "kl_div" && expr !~ /log_target/) return "target_"
    if (is_block) return "weight_ pos_weight_ op.f.running_var"
    if (op ~ /^batch_norm/) return "var_"
    return ""
}

# Operands through which no gradient flows, by definition of the operator.
BEGIN {
    no_grad_operand["cross_entropy:target"]
    no_grad_operand["stop_grad:x"]
    no_grad_operand["batch_norm:mean"]
    no_grad_operand["batch_norm:var"]
    no_grad_operand["mixup:y"] # the first result, which is what is checked, does not depend on it
    no_grad_operand["cross_entropy:probability"]
    no_grad_operand["cosine_embedding:target"] # it chooses
}
