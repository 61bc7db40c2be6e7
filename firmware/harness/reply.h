/* Writing to the host. A reply is text lines; reply_end() and what is built on it return after the
 * line has left the wire, so no sending reaches into a timed window. */
#ifndef LABD_REPLY_H
#define LABD_REPLY_H

#include <stdint.h>

#include "text.h"

void reply_text(const char *literal);
void reply_unsigned(uint32_t value);

/* Two lower-case hex digits. */
void reply_hex(uint8_t byte);

/* What the host sent, with anything but printable ASCII shown as '?'. */
void reply_echo(text received);

/* Three digits after the point, correctly rounded (ties to even); `nan` where the value is not
 * finite or beyond +-2 000 000. */
void reply_thousandths(double value);

/* Ends the line. */
void reply_end(void);

/* A whole line. */
void reply_line(const char *literal);

/* The line e-[reason]. */
void reply_error(const char *reason);

#endif
