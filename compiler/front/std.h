/* SPDX-License-Identifier: MIT
 *
 * The standard library as embed.awk packs it: file names and texts, ended by a row of NULLs.
 */
#ifndef NNC_FRONT_STD_H
#define NNC_FRONT_STD_H

typedef struct StdFile {
    const char *name, *text;
} StdFile;

extern const StdFile front_std_files[];

#endif
