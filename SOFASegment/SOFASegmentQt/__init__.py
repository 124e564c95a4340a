"""The Slicer module's panel: reads widgets, calls `SOFASegmentLib`, shows what changed. Qt, no torch.

Each section of the panel is a class of its own, made with the widgets of the .ui file and the module's logic. A section
has `follow(controller)` and `unfollow()`, because the controller changes when the scene is closed.
"""
