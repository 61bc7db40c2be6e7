/* Text lines to the host. reply_end() and the functions that call it return after the last bit of
 * the line has been sent, so that no transmission extends into a timed window. */
#ifndef LABD_REPLY_H
#define LABD_REPLY_H

#include <stdint.h>

#include "text.h"

void reply_text(const char *literal);
void reply_unsigned(uint32_t value);

/* Writes two lower-case hex digits. */
void reply_hex(uint8_t byte);

/* Writes text of the host, with '?' for every byte that is not printable ASCII. */
void reply_echo(text received);

/* Writes three digits after the point, correctly rounded (ties to even); `nan` if the value is not
 * finite or beyond +-2 000 000. */
void reply_thousandths(double value);

/* Ends the line. */
void reply_end(void);

/* Writes a whole line. */
void reply_line(const char *literal);

/* Writes the line e-[reason]. */
void reply_error(const char *reason);

#endif
