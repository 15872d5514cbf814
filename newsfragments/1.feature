Nodes find each other on a Chord ring, a folder is backed up to them, given back, listed, removed and kept the same on two computers.
