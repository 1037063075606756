// Shared by the C files; not part of the module.
#pragma once
#include <stdint.h>

#include "raw_call.h"

void ah_default_signals(void);
char **ah_text_list(const void *blob, uint32_t count);
int ah_take_stdio(int input, int output, int error);
void ah_close_from(int first);
long ah_block_and_watch(int signal);
