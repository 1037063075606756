// libsodium: hashing, sealing, random bytes.
#ifndef AEGIS_CSODIUM_SHIM_H
#define AEGIS_CSODIUM_SHIM_H
#include <sodium.h>
#endif
