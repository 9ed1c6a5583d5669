"""What a run or a sweep will take, before it starts: FLOPs, memory, hours, energy, money."""
