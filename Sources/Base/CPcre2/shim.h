// PCRE2 with units of one byte; the function names that its macros make are spelled out in Swift.
#ifndef AEGIS_CPCRE2_SHIM_H
#define AEGIS_CPCRE2_SHIM_H

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

// Macros with an unsigned suffix and a cast.
static const size_t AL_PCRE2_UNSET = PCRE2_UNSET;

#endif
