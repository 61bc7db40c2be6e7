"""STMicroelectronics X-NUCLEO-LPM01A (PowerShield)."""
