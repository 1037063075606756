// libarchive, for reading tar streams and their compression. The one thing that Swift cannot see are the macros of archive.h.
#ifndef AEGIS_CARCHIVE_SHIM_H
#define AEGIS_CARCHIVE_SHIM_H
#include <archive.h>
#include <archive_entry.h>
#endif
