#include "input_buffer.h"

#include "reply.h"

enum { PRINT_BYTES_A_LINE = 8 };

/* Progress of the load; expected is 0 before the first accepted `db load`. */
static size_t expected, received;

static void refuse_size(text number, const benchmark *bench) {
    reply_text("Supplied buffer size ");
    reply_echo(number);
    reply_text(" exceeds maximum of ");
    reply_unsigned((uint32_t)bench->buffer_size);
    reply_text("\n"); /* no carriage return, as in the reference */
    reply_error("Load refused");
}

/* A refused load leaves the buffer empty: no inference runs on old data. */
static void load(text number, const benchmark *bench) {
    uint32_t size = 0;
    const number_status status = text_number(number, &size);
    expected = received = 0;
    if (number.length == 0) {
        reply_error("Command 'db load' requires the # of bytes");
    } else if (status == NUMBER_MALFORMED || (status == NUMBER_VALID && size == 0)) {
        reply_error("Command 'db load' must be >0 bytes");
    } else if (status == NUMBER_TOO_LARGE || size > bench->buffer_size) {
        refuse_size(number, bench);
    } else {
        expected = size;
        reply_text("m-[Expecting ");
        reply_unsigned(size);
        reply_line(" bytes]");
    }
}

static void print(const benchmark *bench) {
    for (size_t i = 0; i < expected; i++) {
        const bool last = (i + 1) % PRINT_BYTES_A_LINE == 0 || i + 1 == expected;
        if (i % PRINT_BYTES_A_LINE == 0) {
            reply_text("m-buffer");
        }
        reply_text("-");
        reply_hex(bench->buffer[i]);
        if (last) {
            reply_end();
        }
    }
}

static bool spells_bytes(text digits, size_t count) {
    for (size_t i = 0; i < count; i++) {
        const char *pair = digits.start + 2 * i;
        if (text_hex_byte(pair) < 0) {
            reply_text("e-[Invalid hex digit '");
            reply_echo((text){pair, 2});
            reply_line("']");
            return false;
        }
    }
    return true;
}

/* Stores a line of hex digits: all of it, or nothing after an error. Digits beyond the last
 * expected byte are ignored. */
static void store(text digits, const benchmark *bench) {
    if (digits.length % 2 != 0) {
        reply_error("Insufficent number of hex digits"); /* sic */
        return;
    }
    if (received == expected) {
        reply_error("No bytes are expected: send 'db load' first");
        return;
    }
    const size_t missing = expected - received;
    const size_t count = digits.length / 2 < missing ? digits.length / 2 : missing;
    if (!spells_bytes(digits, count)) {
        return;
    }
    for (size_t i = 0; i < count; i++) {
        bench->buffer[received++] = (uint8_t)text_hex_byte(digits.start + 2 * i);
    }
    if (received == expected) {
        reply_line("m-load-done");
    }
}

void input_buffer_command(text arguments, const benchmark *bench) {
    const text subcommand = text_token(&arguments);
    if (subcommand.length == 0) {
        reply_error("Command 'db' requires a subcommand");
    } else if (text_equals(subcommand, "load")) {
        load(text_token(&arguments), bench);
    } else if (text_equals(subcommand, "print")) {
        print(bench);
    } else {
        store(subcommand, bench);
    }
}

bool input_buffer_ready(const benchmark *bench) {
    if (received == bench->element_size * bench->element_count) {
        return true;
    }
    reply_text("Input db has ");
    reply_unsigned((uint32_t)(received / bench->element_size));
    reply_text(" elemented, expected ");
    reply_unsigned((uint32_t)bench->element_count);
    reply_text("\n"); /* no carriage return, as in the reference */
    return false;
}
