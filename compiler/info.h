/* SPDX-License-Identifier: MIT
 *
 * What nnc says about itself: --help, --version, --list, --help-op and the manual. All of it comes from
 * the tables of operators, optimizers, schedules, initialisers, passes and the standard library.
 */
#ifndef NNC_INFO_H
#define NNC_INFO_H

#include <stdio.h>

#include "base/diag.h"
#include "options.h"

/* False, with *exit_code set, for a name that does not exist. */
bool info_print(Arena *a, Diag *d, const Options *o, FILE *to, int *exit_code);

#endif
