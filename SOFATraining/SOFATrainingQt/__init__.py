"""The training module's panel: reads widgets, calls `SOFATrainingLib`, shows what changed. Qt, no torch.

Each section of the panel is a class of its own, made with the widgets of the .ui file and the module's controller.
"""
