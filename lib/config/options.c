/* SPDX-License-Identifier: MIT */
/*
 * options.c: the parser of APMALLOC_CONF, driven by the rows of options.h.
 */
#include "config/options.h"

#include <string.h>
#include <unistd.h>

#include "base/format.h"
#include "os/os.h"

enum option_type { BOOL, BYTES, NUMBER, WHEN, DELAY, TEXT };

/* Room for a line of help or a warning: a text as value, and what is said about it. */
enum { LINE_ROOM = 1024 };

static const char *const when_words[] = {"auto", "never", "always"}; /* as enum ap__when */

struct row {
    const char *name;
    void *value; /* a char[AP__TEXT_MAX + 1] of a TEXT, a uint64_t of the others */
    uint64_t least;
    uint64_t most;
    const char *help;
    enum option_type type;
};

#define OPTION_DEFAULT(name, type, def, least, most, help) .name = def,
struct ap__options ap__options = {AP_OPTIONS(OPTION_DEFAULT)};
#undef OPTION_DEFAULT

#define OPTION_ROW(name, type, def, least, most, help)                                             \
    {#name, &ap__options.name, (least), (most), (help), (type)},
static const struct row rows[] = {AP_OPTIONS(OPTION_ROW)};
#undef OPTION_ROW

#define OPTION_FITS(name, type, def, least, most, help)                                            \
    _Static_assert((type) != TEXT || (most) <= AP__TEXT_MAX, #name " may be longer than its "      \
                                                                   "room");
AP_OPTIONS(OPTION_FITS)
#undef OPTION_FITS

/* A piece of the text between two separators. */
struct piece {
    const char *text;
    size_t length;
};

static bool piece_is(struct piece piece, const char *word)
{
    return strlen(word) == piece.length && memcmp(word, piece.text, piece.length) == 0;
}

static const struct row *find_row(struct piece key)
{
    for (size_t i = 0; i < AP_ARRAY_LENGTH(rows); i++) {
        if (piece_is(key, rows[i].name)) {
            return &rows[i];
        }
    }
    return NULL;
}

/* How far a suffix shifts a number: K, M, G and T are powers of 1024. -1: no such suffix. */
static int suffix_shift(struct piece suffix)
{
    static const char letters[] = "KMGT";
    if (suffix.length == 0) {
        return 0;
    }
    const char *found = suffix.length == 1 ? strchr(letters, suffix.text[0] & ~0x20) : NULL;
    return found != NULL && *found != '\0' ? (int)(found - letters + 1) * 10 : -1;
}

static bool parse_number(struct piece text, bool with_suffix, uint64_t *value)
{
    uint64_t number = 0;
    size_t i = 0;
    for (; i < text.length && text.text[i] >= '0' && text.text[i] <= '9'; i++) {
        if (__builtin_mul_overflow(number, 10, &number) ||
            __builtin_add_overflow(number, (uint64_t)(text.text[i] - '0'), &number)) {
            return false;
        }
    }
    struct piece suffix = {text.text + i, text.length - i};
    int shift = suffix_shift(suffix);
    if (i == 0 || shift < 0 || (shift > 0 && !with_suffix) || number > UINT64_MAX >> shift) {
        return false;
    }
    *value = number << shift;
    return true;
}

static bool parse_bool(struct piece text, uint64_t *value)
{
    *value = piece_is(text, "true") || piece_is(text, "1");
    return *value != 0 || piece_is(text, "false") || piece_is(text, "0");
}

static bool parse_when(struct piece text, uint64_t *value)
{
    for (size_t i = 0; i < AP_ARRAY_LENGTH(when_words); i++) {
        if (piece_is(text, when_words[i])) {
            *value = i;
            return true;
        }
    }
    return false;
}

static bool parse_value(const struct row *row, struct piece text, uint64_t *value)
{
    if (row->type == DELAY && piece_is(text, "-1")) {
        *value = UINT64_MAX;
        return true;
    }
    bool read = row->type == BOOL   ? parse_bool(text, value)
                : row->type == WHEN ? parse_when(text, value)
                                    : parse_number(text, row->type == BYTES, value);
    return read && *value >= row->least && *value <= row->most;
}

static bool set_text(const struct row *row, struct piece text)
{
    char *copy = row->value;
    if (text.length < row->least || text.length > row->most) {
        return false;
    }
    memcpy(copy, text.text, text.length);
    copy[text.length] = '\0';
    return true;
}

/* `false`: the text is no value of this option, which stays as it is. */
static bool set_value(const struct row *row, struct piece text)
{
    uint64_t number = 0;
    if (row->type == TEXT) {
        return set_text(row, text);
    }
    if (!parse_value(row, text, &number)) {
        return false;
    }
    *(uint64_t *)row->value = number;
    return true;
}

static void format_number(struct ap__format *f, const struct row *row, uint64_t value)
{
    static const char *const suffixes[] = {"", "K", "M", "G", "T"};
    if (row->type == BOOL) {
        ap__format_text(f, value != 0 ? "true" : "false");
        return;
    }
    if (row->type == WHEN) {
        ap__format_text(f, when_words[value]);
        return;
    }
    if (row->type == DELAY && value == UINT64_MAX) {
        ap__format_text(f, "-1");
        return;
    }
    unsigned suffix = 0;
    while (row->type == BYTES && value != 0 && value % 1024 == 0 && suffix < 4) {
        value /= 1024;
        suffix++;
    }
    ap__format_decimal(f, value);
    ap__format_text(f, suffixes[suffix]);
}

static void format_value(struct ap__format *f, const struct row *row)
{
    if (row->type == TEXT) {
        ap__format_text(f, row->value);
        return;
    }
    format_number(f, row, *(const uint64_t *)row->value);
}

static void format_range(struct ap__format *f, const struct row *row)
{
    if (row->type == BOOL) {
        ap__format_text(f, "true or false");
        return;
    }
    if (row->type == WHEN) {
        ap__format_text(f, "auto, never or always");
        return;
    }
    if (row->type == TEXT) {
        ap__format_text(f, "text of at most ");
        ap__format_decimal(f, row->most);
        ap__format_text(f, " bytes");
        return;
    }
    format_number(f, row, row->least);
    ap__format_text(f, " to ");
    format_number(f, row, row->most);
    if (row->type == DELAY) {
        ap__format_text(f, " or -1");
    }
}

static void warn_bad_value(const struct row *row, struct piece value)
{
    char buffer[LINE_ROOM];
    struct ap__format f;
    ap__format_init(&f, buffer, sizeof buffer);
    ap__format_text(&f, "apmalloc: APMALLOC_CONF: bad value '");
    ap__format_bytes(&f, value.text, value.length < 64 ? value.length : 64);
    ap__format_text(&f, "' for ");
    ap__format_text(&f, row->name);
    ap__format_text(&f, " (");
    format_range(&f, row);
    ap__format_text(&f, "); it stays ");
    format_value(&f, row);
    ap__format_text(&f, "\n");
    ap__os_write_stderr(f.buffer, f.length);
}

static void warn_unknown(struct piece key)
{
    char buffer[256];
    struct ap__format f;
    ap__format_init(&f, buffer, sizeof buffer);
    ap__format_text(&f, "apmalloc: APMALLOC_CONF: unknown option '");
    ap__format_bytes(&f, key.text, key.length < 64 ? key.length : 64);
    ap__format_text(&f, "' ignored; help:true lists the options\n");
    ap__os_write_stderr(f.buffer, f.length);
}

static void apply(struct piece key, struct piece value)
{
    const struct row *row = find_row(key);
    if (row == NULL) {
        warn_unknown(key);
    } else if (!set_value(row, value)) {
        warn_bad_value(row, value);
    }
}

static void write_help(void)
{
    static const char head[] = "apmalloc: options (APMALLOC_CONF=\"key:value,key:value\")\n";
    ap__os_write_stderr(head, sizeof head - 1);
    for (size_t i = 0; i < AP_ARRAY_LENGTH(rows); i++) {
        char buffer[LINE_ROOM];
        struct ap__format f;
        ap__format_init(&f, buffer, sizeof buffer);
        ap__format_text(&f, "  ");
        ap__format_text(&f, rows[i].name);
        ap__format_text(&f, ":");
        format_value(&f, &rows[i]);
        ap__format_text(&f, "  (");
        format_range(&f, &rows[i]);
        ap__format_text(&f, ") ");
        ap__format_text(&f, rows[i].help);
        ap__format_text(&f, "\n");
        ap__os_write_stderr(f.buffer, f.length);
    }
}

/* Cuts the text at the first `separator`; what follows it is left in *rest. */
static struct piece cut(struct piece *rest, char separator)
{
    const char *end = rest->length == 0 ? NULL : memchr(rest->text, separator, rest->length);
    struct piece head = {rest->text, end == NULL ? rest->length : (size_t)(end - rest->text)};
    size_t used = head.length + (end != NULL);
    rest->text += used;
    rest->length -= used;
    return head;
}

void ap__options_parse(const char *text)
{
    struct piece rest = {text, text == NULL ? 0 : strlen(text)};
    while (rest.length > 0) {
        struct piece value = cut(&rest, ',');
        if (value.length > 0) {
            struct piece key = cut(&value, ':');
            apply(key, value);
        }
    }
    if (ap__options.help != 0) {
        write_help();
    }
}

void ap__options_seal(void)
{
    if (ap__os_page_size() == AP__OPTIONS_PAGE) {
        (void)ap__os_protect_read_only(&ap__options, sizeof ap__options);
    }
}

void ap__options_unseal(void)
{
    if (ap__os_page_size() == AP__OPTIONS_PAGE) {
        (void)ap__os_commit(&ap__options, sizeof ap__options);
    }
}

bool ap__options_read_environment(void)
{
    static const char name[] = "APMALLOC_CONF=";
    if (ap__os_is_secure_execution()) {
        return true;
    }
    char **environment = ap__os_environment();
    if (environment == NULL) {
        return false;
    }
    for (char **variable = environment; *variable != NULL; variable++) {
        if (strncmp(*variable, name, sizeof name - 1) == 0) {
            ap__options_parse(*variable + sizeof name - 1);
            break;
        }
    }
    return true;
}
