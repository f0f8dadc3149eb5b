// SPDX-License-Identifier: MIT OR GPL-2.0
//
// An I2C bus with an INA3221 on it, for an emulated board that has neither: /dev/i2c-1, address 0x40.
//
// The chip measures what /sys/module/board_sensor/parameters says: shunt_uv, microvolts over the resistor of each channel,
// and bus_mv, millivolts behind it. Both may be changed at any time. (Registers: Texas Instruments SBOS576.)

#include <linux/i2c.h>
#include <linux/module.h>

#define ADDRESS 0x40
#define CHANNELS 3
#define CONFIGURATION 0x00
#define ALERTS 0x0d
#define CONVERSION_READY 0x0001
// All channels on, both voltages, again and again: what the chip does after a reset.
#define AFTER_RESET 0x7127

static int shunt_uv[CHANNELS] = { 5000, 2000, 1000 };
static int bus_mv[CHANNELS] = { 12000, 12000, 5000 };
static unsigned long transfers;
module_param_array(shunt_uv, int, NULL, 0644);
module_param_array(bus_mv, int, NULL, 0644);
module_param(transfers, ulong, 0444);

static u16 configuration = AFTER_RESET;
// Limits and masks are stored, and nothing comes of them.
static u16 stored[256];
static u8 pointer;
// No two measurements are quite the same: a sensor that repeats itself for seconds counts as frozen.
static u16 last_digit;

static u16 value_of(u8 reg)
{
	if (reg == CONFIGURATION)
		return configuration;
	// Shunt and bus voltages take turns: 40 uV and 8 mV a step, three bits to the left.
	if (reg <= 2 * CHANNELS) {
		int channel = (reg - 1) / 2;

		if (reg % 2)
			return shunt_uv[channel] / 40 * 8;
		last_digit ^= 8;
		return bus_mv[channel] / 8 * 8 + last_digit;
	}
	switch (reg) {
	case ALERTS:
		return stored[reg] | CONVERSION_READY;
	case 0xfe:
		return 0x5449;
	case 0xff:
		return 0x3220;
	default:
		return stored[reg];
	}
}

static void write_to(u8 reg, u16 value)
{
	if (reg == CONFIGURATION)
		configuration = value & 0x8000 ? AFTER_RESET : value;
	else
		stored[reg] = value;
}

static void answer(struct i2c_msg *message)
{
	u16 value = value_of(pointer);
	int at;

	for (at = 0; at < message->len; at++)
		message->buf[at] = at % 2 ? value & 0xff : value >> 8;
}

static int transfer(struct i2c_adapter *adapter, struct i2c_msg *messages, int count)
{
	int at;

	for (at = 0; at < count; at++) {
		struct i2c_msg *message = &messages[at];

		if (message->addr != ADDRESS)
			return -ENXIO;
		transfers++;
		if (message->flags & I2C_M_RD) {
			answer(message);
			continue;
		}
		if (message->len >= 1)
			pointer = message->buf[0];
		if (message->len >= 3)
			write_to(pointer, message->buf[1] << 8 | message->buf[2]);
	}
	return count;
}

static u32 abilities(struct i2c_adapter *adapter)
{
	return I2C_FUNC_I2C | I2C_FUNC_SMBUS_EMUL;
}

static const struct i2c_algorithm algorithm = { .master_xfer = transfer, .functionality = abilities };

static struct i2c_adapter bus = { .owner = THIS_MODULE, .algo = &algorithm, .name = "board-sensor", .nr = 1 };

static int __init board_sensor_init(void)
{
	return i2c_add_numbered_adapter(&bus);
}

static void __exit board_sensor_exit(void)
{
	i2c_del_adapter(&bus);
}

module_init(board_sensor_init);
module_exit(board_sensor_exit);
MODULE_LICENSE("Dual MIT/GPL");
MODULE_DESCRIPTION("An INA3221 for an emulated board");
