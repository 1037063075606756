// libyaml's event parser behind accessors: Swift sees no unions and no parser whose address must not change.
#ifndef AEGIS_CYAML_SHIM_H
#define AEGIS_CYAML_SHIM_H

#include <stdlib.h>
#include <yaml.h>

typedef struct al_yaml {
    yaml_parser_t parser;
    yaml_event_t event;
    int has_event;
} al_yaml;

// A parser over bytes that must stay where they are until al_yaml_free; null when memory is out.
static inline al_yaml *al_yaml_new(const unsigned char *bytes, size_t count) {
    al_yaml *y = (al_yaml *)calloc(1, sizeof *y);
    if (!y) return 0;
    if (!yaml_parser_initialize(&y->parser)) {
        free(y);
        return 0;
    }
    yaml_parser_set_encoding(&y->parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&y->parser, bytes, count);
    return y;
}

static inline void al_yaml_free(al_yaml *y) {
    if (y->has_event) yaml_event_delete(&y->event);
    yaml_parser_delete(&y->parser);
    free(y);
}

// Steps to the next event; 0 when the text is not YAML.
static inline int al_yaml_next(al_yaml *y) {
    if (y->has_event) yaml_event_delete(&y->event);
    y->has_event = yaml_parser_parse(&y->parser, &y->event);
    return y->has_event;
}

static inline yaml_event_type_t al_yaml_type(const al_yaml *y) { return y->event.type; }
static inline size_t al_yaml_line(const al_yaml *y) { return y->event.start_mark.line; }
static inline size_t al_yaml_column(const al_yaml *y) { return y->event.start_mark.column; }

static inline const unsigned char *al_yaml_text(const al_yaml *y) { return y->event.data.scalar.value; }
static inline size_t al_yaml_text_count(const al_yaml *y) { return y->event.data.scalar.length; }
static inline int al_yaml_is_plain(const al_yaml *y) { return y->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE; }

// The anchor of the event (for an alias: the anchor it names), or null.
static inline const char *al_yaml_anchor(const al_yaml *y) {
    switch (y->event.type) {
    case YAML_ALIAS_EVENT: return (const char *)y->event.data.alias.anchor;
    case YAML_SCALAR_EVENT: return (const char *)y->event.data.scalar.anchor;
    case YAML_SEQUENCE_START_EVENT: return (const char *)y->event.data.sequence_start.anchor;
    case YAML_MAPPING_START_EVENT: return (const char *)y->event.data.mapping_start.anchor;
    default: return 0;
    }
}

// The tag as resolved by the parser, or null.
static inline const char *al_yaml_tag(const al_yaml *y) {
    switch (y->event.type) {
    case YAML_SCALAR_EVENT: return (const char *)y->event.data.scalar.tag;
    case YAML_SEQUENCE_START_EVENT: return (const char *)y->event.data.sequence_start.tag;
    case YAML_MAPPING_START_EVENT: return (const char *)y->event.data.mapping_start.tag;
    default: return 0;
    }
}

// What the parser could not read, after al_yaml_next returned 0. Reader errors carry no position but an offset.
static inline const char *al_yaml_problem(const al_yaml *y) { return y->parser.problem; }
static inline const char *al_yaml_context(const al_yaml *y) { return y->parser.context; }
static inline size_t al_yaml_problem_line(const al_yaml *y) {
    return y->parser.error == YAML_READER_ERROR ? y->parser.mark.line : y->parser.problem_mark.line;
}
static inline size_t al_yaml_problem_column(const al_yaml *y) {
    return y->parser.error == YAML_READER_ERROR ? y->parser.mark.column : y->parser.problem_mark.column;
}
static inline int al_yaml_is_reader_error(const al_yaml *y) { return y->parser.error == YAML_READER_ERROR; }
static inline size_t al_yaml_problem_offset(const al_yaml *y) { return y->parser.problem_offset; }

#endif
