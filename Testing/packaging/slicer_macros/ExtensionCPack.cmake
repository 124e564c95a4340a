# Slicer packs the extension here; a test stages it with "cmake --install" instead.
