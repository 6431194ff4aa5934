# SPDX-License-Identifier: MIT
#
# Writes a C file that holds the standard library: LC_ALL=C awk -f embed.awk std/*.nn >std_embed.c
# In: `.nn` files in ASCII. Out: front_std_files[], with one string literal a line of text.

function base(path) {
    sub(/^.*\//, "", path)
    return path
}

BEGIN {
    print "/* Made by embed.awk from compiler/front/std. */"
    print "#include \"front/std.h\""
    print ""
    print "const StdFile front_std_files[] = {"
}

FNR == 1 {
    if (NR > 1) print "    },"
    printf "    { \"<std>/%s\",\n", base(FILENAME)
}

{
    gsub(/\\/, "\\\\")
    gsub(/"/, "\\\"")
    printf "      \"%s\\n\"\n", $0
}

END {
    if (NR > 0) print "    },"
    print "    { 0, 0 },"
    print "};"
}
