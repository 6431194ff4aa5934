/* SPDX-License-Identifier: MIT
 *
 * What the library's readers ask of zlib, for processors whose zlib is not installed: checksums by their definition,
 * and no compression, which the tests there do without.
 */
#include <zlib.h>

uLong crc32_z(uLong crc, const Bytef *data, z_size_t n)
{
    uLong c = crc ^ 0xffffffffu;
    for (z_size_t i = 0; i < n; i++) {
        c ^= data[i];
        for (int bit = 0; bit < 8; bit++) c = c >> 1 ^ (c & 1 ? 0xedb88320u : 0);
    }
    return c ^ 0xffffffffu;
}

int inflateInit2_(z_streamp z, int bits, const char *version, int size)
{
    (void)z, (void)bits, (void)version, (void)size;
    return Z_VERSION_ERROR;
}

int inflate(z_streamp z, int flush)
{
    (void)z, (void)flush;
    return Z_STREAM_ERROR;
}

int inflateEnd(z_streamp z)
{
    (void)z;
    return Z_STREAM_ERROR;
}
