"""The emulated STM32L4R5: firmware executed by unicorn, with its peripherals and currents."""
