"""What every driver shares: interfaces, registry, serial link, acquisition."""
