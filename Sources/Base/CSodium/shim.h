// libsodium's sizes are macros of casts, which Swift does not import.
#ifndef AEGIS_CSODIUM_SHIM_H
#define AEGIS_CSODIUM_SHIM_H

#include <sodium.h>

enum {
    AL_XCHACHA_KEY_BYTES = crypto_aead_xchacha20poly1305_ietf_KEYBYTES,
    AL_XCHACHA_NONCE_BYTES = crypto_aead_xchacha20poly1305_ietf_NPUBBYTES,
    AL_XCHACHA_TAG_BYTES = crypto_aead_xchacha20poly1305_ietf_ABYTES,
    AL_STREAM_KEY_BYTES = crypto_secretstream_xchacha20poly1305_KEYBYTES,
    AL_STREAM_HEADER_BYTES = crypto_secretstream_xchacha20poly1305_HEADERBYTES,
    AL_STREAM_ADDED_BYTES = crypto_secretstream_xchacha20poly1305_ABYTES,
    AL_STREAM_TAG_MESSAGE = crypto_secretstream_xchacha20poly1305_TAG_MESSAGE,
    AL_STREAM_TAG_FINAL = crypto_secretstream_xchacha20poly1305_TAG_FINAL,
    AL_PWHASH_SALT_BYTES = crypto_pwhash_SALTBYTES,
    AL_SIGN_PUBLIC_BYTES = crypto_sign_PUBLICKEYBYTES,
    AL_SIGN_SECRET_BYTES = crypto_sign_SECRETKEYBYTES,
    AL_SIGN_SEED_BYTES = crypto_sign_SEEDBYTES,
    AL_SIGN_BYTES = crypto_sign_BYTES,
    AL_PWHASH_ARGON2ID13 = crypto_pwhash_ALG_ARGON2ID13
};

#endif
