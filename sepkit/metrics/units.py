"""The units of metrics."""

NOT_DECIBELS = ("l1_freq", "bleedless", "fullness", "log_wmse", "PESQ", "STOI")  # metrics with other units
