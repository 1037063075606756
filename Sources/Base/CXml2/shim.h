// libxml2, for its HTML parser.
#ifndef AEGIS_CXML2_SHIM_H
#define AEGIS_CXML2_SHIM_H
#include <libxml/HTMLparser.h>
#endif
