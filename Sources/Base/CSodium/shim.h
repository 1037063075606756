// libsodium's sizes are macros of casts, which Swift does not import.
#ifndef AEGIS_CSODIUM_SHIM_H
#define AEGIS_CSODIUM_SHIM_H

#include <sodium.h>

enum {
    AL_XCHACHA_KEY_BYTES = crypto_aead_xchacha20poly1305_ietf_KEYBYTES,
    AL_XCHACHA_NONCE_BYTES = crypto_aead_xchacha20poly1305_ietf_NPUBBYTES,
    AL_XCHACHA_TAG_BYTES = crypto_aead_xchacha20poly1305_ietf_ABYTES
};

#endif
