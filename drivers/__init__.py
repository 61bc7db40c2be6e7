"""One module or folder per instrument; drivers.base.interfaces defines each kind's interface."""
