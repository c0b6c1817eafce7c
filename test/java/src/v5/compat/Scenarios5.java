package compat;
final class Scenarios5 { static boolean run(String n, Kit k) throws Exception { return false; } }
